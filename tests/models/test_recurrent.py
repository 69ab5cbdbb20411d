import pytest
import torch
from torch import nn

from emixer.models.recurrent import Lstm


@pytest.mark.parametrize("layers", [1, 3])
def test_stepwise_lstm_equals_one_pass(layers: int) -> None:
    torch.manual_seed(0)
    lstm, inputs = Lstm(5, 7, layers), torch.randn(4, 6, 5)
    together, last = lstm(inputs)
    with torch.no_grad():
        output, state = lstm(inputs[:, :1])
        one_by_one = [output]
        for step in range(1, 6):
            output, state = lstm(inputs[:, step : step + 1], state)
            one_by_one.append(output)
    torch.testing.assert_close(torch.cat(one_by_one, dim=1), together.detach())
    torch.testing.assert_close(state, tuple(tensor.detach() for tensor in last))


def test_single_step_passes_gradients_to_weights_inputs_and_state() -> None:
    torch.manual_seed(0)
    lstm = Lstm(5, 7)
    inputs = torch.randn(4, 1, 5, requires_grad=True)
    state = (torch.randn(1, 4, 7, requires_grad=True), torch.randn(1, 4, 7, requires_grad=True))
    output, _ = lstm(inputs, state)
    output.square().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in [inputs, *state, *lstm.parameters()])


def test_step_is_float32_under_autocast() -> None:
    torch.manual_seed(0)
    lstm, plain = Lstm(5, 7), nn.LSTM(5, 7, batch_first=True)
    plain.load_state_dict(lstm.state_dict())
    inputs, state = torch.randn(4, 1, 5), (torch.randn(1, 4, 7), torch.randn(1, 4, 7))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output, (hidden, cell) = lstm(inputs.bfloat16(), state)
    assert {output.dtype, hidden.dtype, cell.dtype} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(output, plain(inputs.bfloat16().float(), state)[0])
