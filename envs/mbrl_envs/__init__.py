"""Gymnasium environments and task definitions; importing the module registers the environments."""
