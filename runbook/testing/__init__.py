"""Requests, expected answers and load: what 70_functional_test and 80_stress_test call."""
