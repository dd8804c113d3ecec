"""The privacy platform: from policy files to provably clean zones."""
