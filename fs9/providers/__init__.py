"""Storage behind the waist (`fs9.provider`): one file a provider, none imports another."""
