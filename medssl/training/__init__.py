"""Floor 2: the Step protocol, optimisation, resumable checkpoints, loaders and handlers on MONAI's trainer."""
