"""Exact kernels: each computes what ``huiyan.attention.oracle`` says, faster."""
