"""Operations of albumentations that `augment` does not have: `geometry` moves pixels, `tone` changes their values."""
