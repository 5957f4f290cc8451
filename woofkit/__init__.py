"""What does LoRA cost and what does it buy, when a small Vision Transformer learns ten dog breeds?"""
