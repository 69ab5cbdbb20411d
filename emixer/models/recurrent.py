"""An LSTM that stays in float32 under autocast.

Its cell state accumulates over hundreds of words, for which 8 bits of mantissa are too few, and oneDNN has no bfloat16
LSTM for many CPUs. On GPUs its products still run in TF32 where that is allowed.

Shapes: N rows, E input, H state.
"""

import torch
from torch import Tensor, nn

from emixer.models.full_precision import full_precision

LstmState = tuple[Tensor, Tensor]


class Lstm(nn.LSTM):
    """nn.LSTM, batch first, float32 in and out."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__(input_size, hidden_size, num_layers, batch_first=True)

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: LstmState | None = None
    ) -> tuple[Tensor, LstmState]:
        """Return the states of the last layer at all steps, and the state of all layers after the last step."""
        with full_precision(inputs.device):
            if state is not None and inputs.shape[1] == 1 and not (inputs.is_cuda or torch.is_grad_enabled()):
                return self._step(inputs.float(), state)
            states, last = super().forward(inputs.float(), state)
        return states, last

    def _step(self, inputs_N1E: Tensor, state: LstmState) -> tuple[Tensor, LstmState]:
        """Run a single step: oneDNN's LSTM, made for sequences, takes longer to set up than a word takes."""
        output_NH, hidden, cell = inputs_N1E[:, 0], [], []
        for hidden_NH, cell_NH, weights in zip(*state, self.all_weights, strict=True):
            output_NH, cell_NH = torch.lstm_cell(output_NH, (hidden_NH, cell_NH), *weights)
            hidden.append(output_NH)
            cell.append(cell_NH)
        return output_NH[:, None], (torch.stack(hidden), torch.stack(cell))
