"""Escape text for LaTeX."""

_ESCAPED = str.maketrans(
    {"±": r"$\pm$", "κ": r"$\kappa$", "▲": r"$\uparrow$", "▼": r"$\downarrow$", "\\": r"\textbackslash{}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}",
     ">": r"\textgreater{}"}
    | {letter: rf"\{letter}" for letter in "%&_#${}"}
)  # fmt: skip


def in_latex(text: str) -> str:
    """Escape the names, notes and figures of a table."""
    return text.translate(_ESCAPED)
