"""Engine: Schedule → Run. The pacer, the senders, the workers, the target guard, and the Run format."""
