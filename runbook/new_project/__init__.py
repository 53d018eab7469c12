"""Makes a project for another data set: `runbook new` copies this one and writes the four places for a CSV file."""
