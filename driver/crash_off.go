//go:build !crash

package driver

// crashBefore is where the end-to-end tests kill the driver.
func crashBefore(string) {}
