"""Rewards: what is built in, and how the functions that a run names are found, called and added up."""

from trainer.rewards.build import BUILTIN, build_reward, check_rewards
from trainer.rewards.scoring import Part, Rewards, Scores, judged, score, signed

__all__ = ["BUILTIN", "Part", "Rewards", "Scores", "build_reward", "check_rewards", "judged", "score", "signed"]
