"""Procedural anatomy and its MR signal; pure."""
