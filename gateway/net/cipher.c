/* SPDX-License-Identifier: MIT */
/* HKDF and one block of AES-128, by OpenSSL. Owns contexts; every key it holds is wiped with them. */
#include "net/cipher.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#include "base/mem.h"

struct cipher_block {
    EVP_CIPHER_CTX *encrypt, *decrypt;
};

enum error cipher_derive(const uint8_t secret[CIPHER_SECRET_SIZE], const char *label, uint8_t *out,
                         size_t size)
{
    char digest[] = "SHA256";
    uint8_t key[CIPHER_SECRET_SIZE];
    enum error error = ERROR_NO_MEMORY;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;

    memcpy(key, secret, sizeof(key));
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, sizeof(key)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)label,
                                          strlen(label)),
        OSSL_PARAM_construct_end(),
    };
    if (context != NULL && EVP_KDF_derive(context, out, size, parameters) == 1) {
        error = ERROR_NONE;
    }
    OPENSSL_cleanse(key, sizeof(key));
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    ERR_clear_error();
    return error;
}

static EVP_CIPHER_CTX *new_context(EVP_CIPHER *aes, const uint8_t key[16], int encrypting)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

    if (context != NULL && (EVP_CipherInit_ex2(context, aes, key, NULL, encrypting, NULL) != 1 ||
                            EVP_CIPHER_CTX_set_padding(context, 0) != 1)) {
        EVP_CIPHER_CTX_free(context);
        context = NULL;
    }
    return context;
}

struct cipher_block *cipher_block_new(const uint8_t key[16])
{
    struct cipher_block *cipher = mem_calloc(1, sizeof(*cipher));
    EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-128-ECB", NULL);

    if (cipher != NULL && aes != NULL) {
        cipher->encrypt = new_context(aes, key, 1);
        cipher->decrypt = new_context(aes, key, 0);
    }
    EVP_CIPHER_free(aes);
    ERR_clear_error();
    if (cipher != NULL && (cipher->encrypt == NULL || cipher->decrypt == NULL)) {
        cipher_block_free(cipher);
        cipher = NULL;
    }
    return cipher;
}

void cipher_block_free(struct cipher_block *cipher)
{
    if (cipher != NULL) {
        EVP_CIPHER_CTX_free(cipher->encrypt);
        EVP_CIPHER_CTX_free(cipher->decrypt);
        mem_free(cipher);
    }
}

/* Without padding and chaining a context stays as it is between blocks. */
static enum error run(EVP_CIPHER_CTX *context, const uint8_t *in, uint8_t *out)
{
    int length = 0;

    return EVP_CipherUpdate(context, out, &length, in, CIPHER_BLOCK_SIZE) == 1 &&
                   length == (int)CIPHER_BLOCK_SIZE
               ? ERROR_NONE
               : ERROR_NO_MEMORY;
}

enum error cipher_block_encrypt(struct cipher_block *cipher, const uint8_t in[CIPHER_BLOCK_SIZE],
                                uint8_t out[CIPHER_BLOCK_SIZE])
{
    return run(cipher->encrypt, in, out);
}

enum error cipher_block_decrypt(struct cipher_block *cipher, const uint8_t in[CIPHER_BLOCK_SIZE],
                                uint8_t out[CIPHER_BLOCK_SIZE])
{
    return run(cipher->decrypt, in, out);
}
