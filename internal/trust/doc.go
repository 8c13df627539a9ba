// SPDX-License-Identifier: Apache-2.0

// Package trust holds what a machine's trust is made of: the keys that sign,
// the index that says what a tier holds for a kernel, the envelope that keeps
// a live patch closed to who is not entitled, and the provenance that says
// where it comes from. Bytes in, values out: files and networks are the
// business of its two parts, repo, which writes a TUF repository, and updater,
// which follows one on a machine.
//
// What is signed by whom:
//
//	root       offline, by a threshold of people's keys: the keys of all below
//	targets    which key signs for which tier (tier-NAME, for paths NAME/...)
//	tier-NAME  the indexes, encrypted live patches and provenance of a tier
//	snapshot   which versions of all these belong together
//	timestamp  that this is the newest snapshot, now
//
// A live patch is encrypted once, to a key of its own; that key is wrapped for
// each machine that may have it. docs/threat-model.md says what each stolen
// key is good for, docs/keys.md how people make, use and replace them.
package trust
