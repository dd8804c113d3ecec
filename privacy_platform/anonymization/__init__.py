"""Pure kernels: techniques, generalization hierarchies and the leak finder; no services."""
