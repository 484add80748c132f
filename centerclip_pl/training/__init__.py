"""The LightningModule, its recipe and what a run writes."""
