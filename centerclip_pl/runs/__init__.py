"""RUN FOLDERS -> ONE TABLE: what the runs below a folder, or of a W&B project, found, with which options, at what cost."""
