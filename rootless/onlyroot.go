package rootless

// OnlyRootChanges is a stub: drop this file at the merge.
func OnlyRootChanges(path string) bool { return onlyRootChanges(path) }
