"""Distillation: a large teacher trains a small student."""

from kbert.distillation import recipes
from kbert.distillation.distiller import Distiller

__all__ = ["Distiller", "recipes"]
