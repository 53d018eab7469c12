"""A stand-in of the Azure control plane that the real, unmodified azure-ai-ml client talks to; see README.md."""
