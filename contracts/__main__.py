"""`python -m contracts` (or `make contracts`) writes docs/openapi.json and docs/asyncapi.yaml anew from the code."""

from contracts.documents import DOCUMENTS


def main() -> None:
    """Write both."""
    for path, text in DOCUMENTS.items():
        path.write_text(text())


main()
