// SPDX-License-Identifier: Apache-2.0

package code

// TS75xx jobs and workers; TS78xx setting up and running a server.
func service() []Entry {
	return []Entry{
		// TS75xx: jobs and workers
		{"TS7501", KindError, "there is no such job", "list them: tsugictl job ls"},
		{"TS7502", KindError, "the job has ended already", "look at its result: tsugictl job show JOB"},
		{"TS7503", KindError, "the worker does not have this job any more", "nothing needs doing: the job was silent for too long and is taken up again by another worker"},
		{"TS7504", KindError, "the job was cancelled", "queue it again if it is still wanted"},
		{"TS7505", KindError, "the job cannot be done as it was asked for", "correct it and queue it again"},
		{"TS7506", KindError, "the live patch was built and its proof does not hold", "look at the job's log and proof; nothing was published"},
		{"TS7507", KindError, "the job has no such file", "only a build whose verdict is live has an artifact; look at the job: tsugictl job show JOB"},
		{"TS7508", KindError, "an upload of a worker is not what it should be", "workers and server must be of one version; look at the worker's log"},
		{"TS7509", KindError, "the worker broke down while it did the job", "report it with the job's log and fixes"},
		// TS78xx: setting up and running a server
		{"TS7801", KindError, "the configuration cannot be read", "check the file, its permissions and its YAML; tsugi-server config shows what is in force"},
		{"TS7802", KindError, "the configuration has an unknown key", "correct or remove it; docs/server.md lists all keys"},
		{"TS7803", KindError, "a value of the configuration cannot be used", "correct it in the file, the environment or the flag that it comes from"},
		{"TS7804", KindError, "this directory is no server's", "make one with tsugi-server init, or name the right one with --dir"},
		{"TS7805", KindError, "this directory holds a server already", "use another directory; tsugi-server init never changes an existing server"},
		{"TS7806", KindError, "the certificate and its key cannot be used", "give the PEM chain, leaf first, and the private key that belongs to it"},
		{"TS7807", KindError, "the address cannot be listened on", "choose another with listen, end the program that holds it, or allow low ports (CAP_NET_BIND_SERVICE)"},
		{"TS7808", KindError, "the backup cannot be used", "it is damaged, incomplete or of something else: take an older one"},
		{"TS7809", KindError, "there is something where the backup would be restored to", "restore into an empty directory, an empty database and an empty bucket or prefix"},
		{"TS7810", KindError, "the server's directory cannot be written to", "mount the file system for writing and give the directory to the user that the server runs as"},
		{"TS7811", KindError, "no certificate came from the ACME authority", "the name must lead to this server from where the authority is; look at the log for its answer"},
		{"TS7812", KindError, "another process serves from this directory", "end it first; a second server needs a directory of its own"},
		{"TS7813", KindError, "there is an operator of this name", "choose another name, or revoke the one that there is: tsugi-server operator ls"},
		{"TS7814", KindError, "there is no such operator", "list them: tsugi-server operator ls"},
		{"TS7816", KindError, "there is a file of this name", "choose another name: a backup never replaces one"},
		{"TS7815", KindError, "this server has no certificate authority of its own", "with tls.mode files the certificate is renewed by who made it, with acme by the server itself"},
	}
}
