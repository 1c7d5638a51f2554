"""The audit of the paper's claims about one step, in nine panels."""

from figures.entry import Built, Entry, main_of
from figures.fig_audit import draw_audit
from figures.study import Data


def build(data: Data) -> Built:
    """Load and draw."""
    return Built(draw_audit(data.audit))


ENTRY = Entry(
    "audit_panels",
    "Claims about one step, audited",
    "The sign rule against entropy, against its claimed probability, by confidence and by weight; drift; positives "
    "against negatives; the tie and what breaks it; the baseline of Fig. 2a; Theorem 2 over whole responses.",
    ("audit", "released_fig2a.csv"),
    build,
)

if __name__ == "__main__":
    main_of(ENTRY)
