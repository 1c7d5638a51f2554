"""Whole pages of `entrocraft simulate`: drift, and controllers at a constant target."""

from figures.entry import Built, Entry, main_of
from figures.fig_simulation import draw_simulation
from figures.study import Data


def entry_of(name: str, simulation: str, title: str, caption: str) -> Entry:
    """Return the entry of an experiment's page."""

    def build(data: Data) -> Built:
        return Built(draw_simulation(data.simulation(simulation)))

    return Entry(name, title, caption, (f"simulations/{simulation}",), build)


ENTRIES = (
    entry_of(
        "drift",
        "drift",
        "Drift by sampling noise",
        "Noise alone moves entropy at second order, with the sign and size that the theory predicts, as 1/G.",
    ),
    entry_of(
        "simulated_controllers",
        "controllers",
        "Controllers on bandits",
        "Entropy at a constant target and expected reward, with policies whose entropy is exact.",
    ),
)

if __name__ == "__main__":
    for entry in ENTRIES:
        main_of(entry)
