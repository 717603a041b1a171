"""Benchmarks, each paired in one run with what a user would pick instead."""
