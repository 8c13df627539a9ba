// SPDX-License-Identifier: Apache-2.0

package code

// TS71xx trust: keys, TUF, provenance, envelopes; TS77xx publication.
func trust() []Entry {
	return []Entry{
		{"TS7101", KindError, "the index of a tier breaks a rule of its format", "publish again; if the server wrote this, report it"},
		{"TS7102", KindError, "not a key that Tsugi can use", "give an Ed25519 key as tsugictl key new makes one"},
		{"TS7103", KindError, "the passphrase of the key is missing or wrong", "give the passphrase that the key file was made with"},
		{"TS7104", KindError, "not an identity or recipient of a machine", "let the agent make its own: tsugi enroll"},
		{"TS7105", KindError, "the wrapped key is not for this machine, or damaged", "enroll this machine again, so that the server knows its present key"},
		{"TS7106", KindError, "the encrypted live patch can't be opened", "refresh; if it stays so, publish the live patch again"},
		{"TS7107", KindError, "the provenance of the live patch is not signed by a key that is trusted for it", "do not use the live patch; find out who put it there"},
		{"TS7108", KindError, "the provenance is about another live patch", "do not use the live patch; find out who put it there"},
		{"TS7109", KindError, "the offline bundle holds no keys for this machine", "make a bundle that names this machine: tsugictl bundle --machine"},
		{"TS7110", KindError, "this machine trusts no root yet", "enroll it: tsugi enroll"},
		{"TS7111", KindError, "the update metadata is not signed by the keys that this machine trusts", "someone else answers for the server, or its keys were replaced in a way that this machine can't follow; compare tsugictl key show with the server's root"},
		{"TS7112", KindError, "the server offers older metadata than this machine has seen", "look for a stale mirror, a server whose storage was put back without tsugi-server restore, or an attack"},
		{"TS7113", KindError, "the update metadata has expired", "start the server, or refresh the mirror: it signs again by itself; an expired root needs a new one (docs/keys.md)"},
		{"TS7114", KindError, "the server sends more bytes than its metadata announces", "look for a broken mirror or an attack between this machine and the server"},
		{"TS7115", KindError, "a file is not the one that the signed metadata names", "look for a mirror that is half refreshed, or an attack between this machine and the server"},
		{"TS7116", KindError, "the server sends too slowly", "look at the network; a slower limit can be configured"},
		{"TS7117", KindError, "the tier's key has not signed for this file", "refresh; if it stays so, publish it to the tier"},
		{"TS7118", KindError, "the index is older than the one that this machine has", "look for a restored backup; publishing again makes a newer one"},
		{"TS7119", KindError, "this machine's clock is wrong", "set the clock (timedatectl), then refresh"},
		{"TS7120", KindError, "the server can't be reached", "look at the network, the proxy and the server; the machine keeps what it has and tries again"},
		{"TS7121", KindError, "the update metadata is malformed", "look for a broken mirror or an attack between this machine and the server"},
		{"TS7122", KindError, "the trust that this machine keeps on disk can't be used", "look at the disk: is it full, read-only, damaged? if the files are lost, enroll this machine again"},
		{"TS7123", KindError, "another root is pinned on this machine", "unenroll it first if it really goes to another server"},
		{"TS7130", KindError, "a key that must sign is not here", "put the private key into the server's key directory, or sign where it is"},
		{"TS7131", KindError, "the root is not one that can be used", "make the next root of the one in use (tsugictl key root), and let enough of the keys of both sign it"},
		{"TS7132", KindError, "not an offline bundle", "make one with tsugictl bundle, and copy it whole"},
		// TS77xx: publication
		{"TS7701", KindError, "no such live patch", "list them all: tsugictl livepatch ls"},
		{"TS7702", KindError, "another live patch has this target and version", "build it again with a higher version"},
		{"TS7703", KindError, "no such tier", "list them all: tsugictl tier ls"},
		{"TS7704", KindError, "the proof does not prove this live patch", "prove the live patch that you publish, or publish it without a proof"},
		{"TS7705", KindError, "the live patch is blocked", "take the block back first if that was a mistake: tsugictl unblock"},
		{"TS7706", KindError, "the live patch does not supersede those that are published", "build it again with a higher version"},
		{"TS7707", KindError, "the live patch is in the last tier already", "name a tier to put it elsewhere"},
		{"TS7708", KindError, "other servers signed again and again before this one could", "try again"},
		{"TS7709", KindError, "there is no TUF repository yet", "make it: tsugi-server init"},
		{"TS7710", KindError, "a key file is there already", "nothing was overwritten; choose another directory, or carry the old keys away first"},
		{"TS7711", KindError, "the server's keys can't be read", "look at the key directory of the server's configuration; a lost key is replaced as docs/keys.md says"},
		{"TS7712", KindError, "a private key can be read by others", "take the permission away; if others may have read it, replace the key as docs/keys.md says"},
		{"TS7713", KindError, "a stored file is damaged", "publish the live patch again, or restore the storage from a backup"},
		{"TS7714", KindError, "the revert is not possible", "name a target and a lower version that are published in the tier and not blocked, or 0 for none at all"},
		{"TS7715", KindError, "not a name for a tier", "use 1 to 32 small letters, digits and dashes, a letter first"},
		{"TS7716", KindError, "the tier can't be made or removed", "choose another name; a tier goes only when no machine, live patch or token is in it"},
		{"TS7717", KindError, "the build report is not JSON", "give the report that tsugictl build --json wrote"},
		{"TS7718", KindError, "there is nothing to put into the bundle", "name machines, and a tier in which live patches are published"},
	}
}
