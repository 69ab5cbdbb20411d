"""Rows of Markdown tables, read back by a Markdown parser that knows tables."""

import markdown

from emixer.markdown import table_row


def test_bars_and_line_breaks_in_a_cell_stay_in_it() -> None:
    table = [table_row(["label", "rows"]), "| --- | --- |", table_row(["Nodule|Mass", "12"]), table_row(["a\nb", "3"])]
    page = markdown.markdown("\n".join(table), extensions=["tables"])
    assert page.count("<tr>") == 3
    assert "<td>Nodule|Mass</td>\n<td>12</td>" in page
    assert "<td>a b</td>\n<td>3</td>" in page
