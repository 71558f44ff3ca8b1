"""What question answering is made of: answers in their passages, windows, and the best span of several windows."""
