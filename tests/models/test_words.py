import torch

from emixer.models.words import ReportReader, embedded


def test_straight_through_word_is_hard_forward_and_soft_backward() -> None:
    torch.manual_seed(0)
    logits, table = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    direction = torch.randn(5, 3)

    def gradients_of(use_ours: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        probability = logits.softmax(dim=1)
        chosen = probability.argmax(dim=1)
        one_hot = torch.nn.functional.one_hot(chosen, 7) + probability - probability.detach()
        result = embedded(probability, chosen, table, straight_through=True) if use_ours else one_hot @ table
        return result.detach(), list(torch.autograd.grad((result * direction).sum(), [logits, table]))

    ours, theirs = gradients_of(True), gradients_of(False)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1][0], theirs[1][0])
    torch.testing.assert_close(ours[1][1], theirs[1][1])


def test_soft_word_is_the_mean_embedding() -> None:
    table = torch.tensor([[1.0], [3.0]])
    assert embedded(torch.tensor([[0.25, 0.75]]), torch.tensor([1]), table, straight_through=False).item() == 2.5


def test_report_is_read_as_the_bare_sequence_of_its_words() -> None:
    torch.manual_seed(0)
    reader = ReportReader(num_words=9, embedding=4, hidden=5)
    words = torch.tensor(
        [
            [[4, 5, 2, 0], [6, 2, 0, 0], [7, 8, 4, 2]],
            [[3, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    states = reader(reader.embed(words), words != 0)
    for row, sequence in enumerate([[4, 5, 2, 6, 2, 7, 8, 4, 2], [3, 2]]):
        alone, _ = reader.lstm(reader.embedding(torch.tensor([sequence])))
        torch.testing.assert_close(states[row], alone[0, -1])


def test_extra_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    reader = ReportReader(num_words=9, embedding=4, hidden=5)
    words = torch.tensor([[[4, 5, 2], [6, 2, 0]]])
    roomy = torch.nn.functional.pad(words, (0, 3, 0, 2))
    torch.testing.assert_close(reader(reader.embed(words), words != 0), reader(reader.embed(roomy), roomy != 0))
