"""Where a run can be trusted, and where not: one page, and one JSON object that a pipeline can gate on."""
