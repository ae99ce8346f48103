"""When, and in what order: one file per trigger, and the pipeline they share."""
