"""The ledger of the paper's claims, `paper_repro.md`: words and verdicts by hand, numbers from committed tables."""
