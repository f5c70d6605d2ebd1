"""Advice on transfer: which of four cases a support set is, by measurement, and what to do about it.

numpy and scipy only. Knows no network, no file and no HTTP.
"""

from training.advise.advice import Advice, advise
from training.advise.knowledge import SourceKnowledge
from training.advise.plans import Plan
from training.advise.similarity import Similarity, measure_similarity

__all__ = ["Advice", "Plan", "Similarity", "SourceKnowledge", "advise", "measure_similarity"]
