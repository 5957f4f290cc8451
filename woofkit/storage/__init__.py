"""Weight files and folders of Hugging Face PEFT."""
