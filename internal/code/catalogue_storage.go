// SPDX-License-Identifier: Apache-2.0

package code

// TS74xx the store and its blobs.
func storage() []Entry {
	return []Entry{
		{"TS7401", KindError, "the address of the database is not understood", "give sqlite:/path/file.db or postgres://user@host/database"},
		{"TS7402", KindError, "the database cannot be reached", "look at the message; check that it runs, the address, the permissions and the network"},
		{"TS7403", KindError, "there is no space for the database", "free space on its disk; what was answered with success is stored"},
		{"TS7404", KindError, "the database cannot be written", "check that its file, its directory and its account allow writing"},
		{"TS7405", KindError, "the database is damaged", "stop the server, keep a copy of the files, and restore the last backup (tsugi-server restore)"},
		{"TS7406", KindError, "the database is busy", "try again; if it stays so, look for another program that holds it"},
		{"TS7407", KindError, "the disk of the database does not do its work", "look at the kernel's log; restore the last backup to another disk if it is failing"},
		{"TS7408", KindError, "the database was written by a newer version of the server", "install that version or a newer one, or restore a backup of before the upgrade"},
		{"TS7409", KindError, "the job lost its worker in each of its attempts", "look at the logs of the workers; queue the job again when they run"},
		{"TS7410", KindError, "the backup is damaged or not one", "take another backup; nothing of this one was restored"},
		{"TS7411", KindError, "a file of the server cannot have this name", "report this: the server chose it"},
		{"TS7412", KindError, "the folder of the server's files cannot be used", "check its path, its permissions and its disk"},
		{"TS7413", KindError, "a file has another size than was announced", "send it again"},
		{"TS7414", KindError, "there is no space for the server's files", "free space on their disk; what was answered with success is stored"},
		{"TS7415", KindError, "the bucket of the server's files cannot be used", "look at the message; check the address, the name of the bucket, the credentials and the network"},
		{"TS7416", KindError, "the database is not empty", "restore into a new database: a new path, or an empty database on the server"},
	}
}
