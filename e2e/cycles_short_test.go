//go:build e2e && !soak

package e2e

// cycleRounds are the rounds of 20 tasks after the first. In the emulated lab each takes a minute.
const cycleRounds = 2
