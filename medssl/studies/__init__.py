"""Floor 4: methods x numbers of labelled cases x draws x seeds on one manifest: plan, run, resume, curve."""
