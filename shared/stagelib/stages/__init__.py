"""One module a stage; the file's name is the stage's name."""
