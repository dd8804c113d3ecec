"""Pure kernels: techniques, generalization hierarchies and the leak finder. No services, no I/O but hierarchies."""
