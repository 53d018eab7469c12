"""An emulator of the part of Azure Pipelines that pipelines/ uses, and Microsoft's language service.

It is an emulator: what it shows is how our YAML behaves under the documented rules as we read them, not how the
service behaves. It refuses every key, task, expression and logging command that it does not know.
"""
