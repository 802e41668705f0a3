"""What a run is compared with: text to pose without this project's model."""
