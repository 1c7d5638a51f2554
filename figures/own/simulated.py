"""Pages of `entrocraft simulate`: positives against negatives, control authority, drift, ledgers, controllers."""

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
        "positives_negatives",
        "one_sided",
        "Positives against negatives",
        "Training on right answers alone and on wrong answers alone moves entropy alike, on-policy, at first order and "
        "when both divide by all rollouts; step size, the denominator and GRPO's normalisation tell them apart.",
    ),
    entry_of(
        "authority_map",
        "authority",
        "Control authority of Algorithm 1",
        "Whether keeping negatives alone raises entropy, only brakes its fall, does nothing, or lowers it faster than "
        "GRPO, over optimisers, policies, difficulties, batches, reuse and learning rates.",
    ),
    entry_of(
        "drift",
        "drift",
        "Drift by sampling noise",
        "Noise alone moves entropy at second order, with the sign and size that the theory predicts, as 1/G.",
    ),
    entry_of(
        "ledger_bars",
        "attribution",
        "Entropy ledger",
        "What moved entropy in whole runs: covariance, sampling, filter, shared parameters, clipping and reuse, "
        "optimiser and second order, and what is left unexplained.",
    ),
    entry_of(
        "simulated_controllers",
        "controllers",
        "Controllers on bandits",
        "Entropy at a constant target and expected reward, with policies whose entropy is exact.",
    ),
    entry_of(
        "simulated_schedules",
        "schedules",
        "Schedules on bandits and networks",
        "Tracking error and reward of each controller on constant, linear, cosine and square-wave schedules.",
    ),
)

if __name__ == "__main__":
    for entry in ENTRIES:
        main_of(entry)
