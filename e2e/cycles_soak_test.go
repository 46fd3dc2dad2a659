//go:build e2e && soak

package e2e

// cycleRounds are the rounds of 20 tasks after the first.
const cycleRounds = 10
