// Nothing: its presence allows functions without bodies (inside.go).
