"""Where images come from: ImageWoof, and near-copies between two sets."""
