// SPDX-License-Identifier: Apache-2.0

package code

// policies are the problems of policies on the server.
func policies() []Entry {
	return []Entry{
		{"TS7901", KindError, "the fixes that are pushed can't be taken", "make them anew with tsugictl update push, of the same release as the server"},
		{"TS7902", KindError, "no such policy", "tsugictl policy ls lists them"},
		{"TS7903", KindError, "the policy is in use", "give its groups another one first: tsugictl policy set default --group GROUP"},
		{"TS7904", KindError, "nothing is pushed for this target under this name", "tsugictl update ls lists what is"},
		{"TS7905", KindError, "the policy does not have such an exclusion", "tsugictl policy show lists those that it has"},
		{"TS7906", KindError, "the live patch holds what the policy excludes", "publish it for other policies with --policy, or take the exclusion back: tsugictl policy include"},
		{"TS7907", KindError, "the worker chooses other fixes than the server", "bring server and workers to the same release"},
		{"TS7908", KindError, "the policy's text can't be kept", "correct what is named and set it again: tsugictl policy set"},
		{"TS7909", KindError, "the policy chooses nothing that could be built again", "tsugictl policy show lists what it chooses for each target"},
	}
}
