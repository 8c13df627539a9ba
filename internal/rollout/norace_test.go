// SPDX-License-Identifier: Apache-2.0

//go:build !race

package rollout

const (
	large      = 100_000 // machines of a fleet
	manyFleets = 2000
	goodFleets = 10
)
