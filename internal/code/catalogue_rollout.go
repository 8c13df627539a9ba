// SPDX-License-Identifier: Apache-2.0

package code

// rollouts are the problems of taking live patches through machines in waves.
func rollouts() []Entry {
	return []Entry{
		{"TS8101", KindError, "the plan of a rollout is not usable", "correct the place that is named"},
		{"TS8102", KindError, "the rollout can't be told to do this now", "look at where it stands: a halted one can be resumed, one that is over can only be begun anew"},
		{"TS8103", KindError, "the approval does not count", "each approval is of another person, and only of what waits for one"},
		{"TS8104", KindError, "the rollout has to be told by whom and why", "give a reason: it is kept, and shown to those who ask later"},
		{"TS8105", KindError, "the rule of promotions is not usable", "correct the place that is named"},
		{"TS8106", KindError, "the live patch is on its way through this tier already", "look at that rollout, or abort it before another is begun: tsugictl rollout ls"},
		{"TS8107", KindError, "the live patch has been through this tier", "its machines may all have it: nothing is left to roll out"},
		{"TS8108", KindError, "there is no such rollout", "list them: tsugictl rollout ls"},
	}
}
