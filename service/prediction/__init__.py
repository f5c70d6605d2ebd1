"""Versions in memory and their answers: one head or a panel, and how often they are right."""
