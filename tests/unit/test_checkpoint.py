"""Checkpoints and proofs as text: published vectors open, any other spelling is refused by its reason."""

import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ordernotify.core.checkpoint import (
    MAX_SIGNATURES,
    MAX_TEXT_CHARS,
    CheckpointRefusedError,
    Cosignature,
    LogSigner,
    Refusal,
    SignatureType,
    VerifierKey,
    open_checkpoint,
    parse_vkey,
    sign_checkpoint,
)
from ordernotify.core.merkle import EMPTY_ROOT, inclusion_proof, leaf_hash
from ordernotify.core.proof import Proof, ProofRefusal, ProofRefusedError, make_proof, open_proof

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "ledger_vectors.json").read_text("utf-8"))
ORIGIN = VECTORS["origin"]
LOG, WITNESS = VECTORS["vkey"], VECTORS["witness_vkey"]
SEED = bytes.fromhex(VECTORS["log_seed"])
SIGNER = LogSigner.from_seed(ORIGIN, SEED)
STRANGER = LogSigner.from_seed(ORIGIN, bytes(32))

TEXT = VECTORS["checkpoint"]
NOTE, _, LINES = TEXT.rpartition("\n\n")
NOTE += "\n"
LOG_LINE, WITNESS_LINE = LINES.splitlines(keepends=True)
ROOT_LINE = NOTE.splitlines()[2]
ROOT = b64decode(ROOT_LINE)
LEAVES = [leaf_hash(vector["jcs"].encode()) for vector in VECTORS["records"]]


def refused(text, vkeys=(LOG, WITNESS), origin=ORIGIN):
    with pytest.raises(CheckpointRefusedError) as error:
        open_checkpoint(text, vkeys, origin=origin)
    return error.value.reason


def signed(note, signer=SIGNER):
    """Sign any text at all, as a log with this key but without our care could."""
    blob = signer.verifier.key_id + signer.sign(note.encode())
    return f"{note}\n\u2014 {signer.name} {b64encode(blob).decode()}\n"


def cosigned(note, time, seed):
    """Return a witness's line over ``note`` and its vkey, made from the published layout."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    key = VerifierKey("witness.example.com/w1", SignatureType.COSIGNATURE, public)
    message = f"cosignature/v1\ntime {time}\n{note}".encode()
    blob = key.key_id + time.to_bytes(8) + private.sign(message)
    return f"\u2014 {key.name} {b64encode(blob).decode()}\n", str(key)


def line_of(name, size):
    return f"\u2014 {name} {b64encode(bytes(size)).decode()}\n"


def test_the_published_checkpoint_opens_with_log_and_witness():
    opened = open_checkpoint(TEXT, [LOG, WITNESS], origin=ORIGIN)
    assert (opened.origin, opened.size, opened.root.hex()) == (ORIGIN, 5, VECTORS["roots"]["5"])
    assert opened.signers == (ORIGIN,)
    assert opened.cosignatures == (Cosignature("witness.example.com/w1", 1795521600),)


def test_one_known_key_is_enough_and_unknown_ones_are_ignored():
    assert open_checkpoint(TEXT, [LOG]).cosignatures == ()
    assert open_checkpoint(TEXT, [WITNESS]).signers == ()
    unknown = line_of("other.example.com", 2424)
    assert open_checkpoint(TEXT + unknown, [LOG]).size == 5


def test_a_key_that_shares_only_name_or_only_id_with_a_known_one_is_ignored():
    same_id = LOG_LINE.replace(ORIGIN, "other.example.com")
    assert refused(f"{NOTE}\n{same_id}") is Refusal.UNKNOWN_KEYS
    assert refused(signed(NOTE, STRANGER)) is Refusal.UNKNOWN_KEYS


@pytest.mark.parametrize(("size", "text"), [(3, VECTORS["checkpoint3"]), (5, f"{NOTE}\n{LOG_LINE}")])
def test_signing_reproduces_the_published_bytes(size, text):
    assert sign_checkpoint(ORIGIN, size, bytes.fromhex(VECTORS["roots"][str(size)]), SIGNER) == text


def test_what_is_signed_opens_again():
    for size, root in [(0, EMPTY_ROOT), (1, ROOT), (2**63 - 1, ROOT)]:
        opened = open_checkpoint(sign_checkpoint(ORIGIN, size, root, SIGNER), [LOG], origin=ORIGIN)
        assert (opened.size, opened.root) == (size, root)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, ROOT),
        ("a\nb", 1, ROOT),
        ("a\r", 1, ROOT),
        ("a\ud800", 1, ROOT),
        (ORIGIN, -1, ROOT),
        (ORIGIN, 2**63, ROOT),
        (ORIGIN, 1, ROOT[:-1]),
        (ORIGIN, 0, ROOT),
    ],
)
def test_an_impossible_head_is_not_signed(origin, size, root):
    with pytest.raises(ValueError, match=r"origin|size|root"):
        sign_checkpoint(origin, size, root, SIGNER)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", Refusal.NO_BLANK_LINE, id="nothing"),
        pytest.param("x" * (MAX_TEXT_CHARS + 1), Refusal.TOO_LONG, id="too long"),
        pytest.param(TEXT.replace("\n", "\r\n"), Refusal.CARRIAGE_RETURN, id="CRLF throughout"),
        pytest.param(TEXT[:-1] + "\r\n", Refusal.CARRIAGE_RETURN, id="CRLF at the end"),
        pytest.param(TEXT.replace("5\n", "5\t\n", 1), Refusal.CONTROL_CHARACTER, id="tab"),
        pytest.param(TEXT + "\x00\n", Refusal.CONTROL_CHARACTER, id="zero byte"),
        pytest.param("\ud800" + TEXT, Refusal.NOT_UNICODE, id="lone surrogate"),
        pytest.param(TEXT.replace("\n\n", "\n"), Refusal.NO_BLANK_LINE, id="blank line missing"),
        pytest.param(NOTE, Refusal.NO_BLANK_LINE, id="note alone"),
        pytest.param(NOTE + "\n", Refusal.NO_SIGNATURE, id="no signature"),
        pytest.param(TEXT + "\n", Refusal.EXTENSION_LINES, id="blank line at the end"),
        pytest.param(TEXT[:-1], Refusal.NO_FINAL_NEWLINE, id="last newline missing"),
        pytest.param(signed("\n5\n" + ROOT_LINE + "\n"), Refusal.BAD_ORIGIN, id="empty origin"),
        pytest.param(signed(f"{ORIGIN}\n5\n"), Refusal.TOO_FEW_LINES, id="root missing"),
        pytest.param(signed(f"{ORIGIN}\n"), Refusal.TOO_FEW_LINES, id="size missing"),
        pytest.param(signed(NOTE + "extra\n"), Refusal.EXTENSION_LINES, id="extension line"),
        pytest.param(signed(NOTE + "\n"), Refusal.EXTENSION_LINES, id="empty extension line"),
        pytest.param(signed(f"{ORIGIN}/2\n5\n{ROOT_LINE}\n"), Refusal.WRONG_ORIGIN, id="another log"),
        pytest.param(signed(f"{ORIGIN} \n5\n{ROOT_LINE}\n"), Refusal.WRONG_ORIGIN, id="space after origin"),
        *(
            pytest.param(signed(f"{ORIGIN}\n{size}\n{ROOT_LINE}\n"), Refusal.BAD_SIZE, id=f"size {size!r}")
            for size in ("", "05", "+5", "-5", " 5", "5 ", "5.0", "0x5", "\u0665", "00", str(2**63), "9" * 30)
        ),
        *(
            pytest.param(signed(f"{ORIGIN}\n5\n{root}\n"), reason, id=f"root {root[-6:]!r}")
            for root, reason in (
                (ROOT_LINE[:-1], Refusal.BAD_BASE64),
                (ROOT_LINE[:-2] + "p=", Refusal.BAD_BASE64),
                (ROOT_LINE + "=", Refusal.BAD_BASE64),
                (" " + ROOT_LINE, Refusal.BAD_BASE64),
                ("é" + ROOT_LINE[1:], Refusal.BAD_BASE64),
                (ROOT_LINE[:10] + "-" + ROOT_LINE[11:], Refusal.BAD_BASE64),
                ("", Refusal.BAD_BASE64),
                ("AAAA", Refusal.BAD_ROOT),
                (b64encode(bytes(33)).decode(), Refusal.BAD_ROOT),
            )
        ),
        pytest.param(signed(f"{ORIGIN}\n0\n{ROOT_LINE}\n"), Refusal.BAD_ROOT, id="empty log, other root"),
        pytest.param(TEXT.replace("\u2014", "-"), Refusal.BAD_SIGNATURE_LINE, id="hyphen"),
        pytest.param(TEXT.replace("\u2014 ", "\u2014"), Refusal.BAD_SIGNATURE_LINE, id="no space"),
        pytest.param(TEXT.replace("\u2014 ", "\u2014  "), Refusal.BAD_SIGNATURE_LINE, id="two spaces"),
        pytest.param(TEXT + "garbage\n", Refusal.BAD_SIGNATURE_LINE, id="garbage line"),
        pytest.param(TEXT + line_of("a+b", 68), Refusal.BAD_SIGNATURE_LINE, id="plus in a name"),
        pytest.param(TEXT + line_of("a\u00a0b", 68), Refusal.BAD_SIGNATURE_LINE, id="space in a name"),
        pytest.param(TEXT + line_of("a", 4), Refusal.BAD_SIGNATURE_LINE, id="key id alone"),
        pytest.param(TEXT + "\u2014 a \n", Refusal.BAD_BASE64, id="empty signature"),
        pytest.param(TEXT + "\u2014 a AAAAAAB=\n", Refusal.BAD_BASE64, id="unknown key, loose base64"),
        pytest.param(f"{NOTE}\n{LOG_LINE[:-2]}V=\n", Refusal.BAD_BASE64, id="known key, loose base64"),
        pytest.param(TEXT.replace(" lpm", "  lpm"), Refusal.BAD_BASE64, id="two spaces before base64"),
        pytest.param(TEXT + LOG_LINE, Refusal.DUPLICATE_SIGNATURE, id="log signed twice"),
        pytest.param(TEXT + WITNESS_LINE, Refusal.DUPLICATE_SIGNATURE, id="witness signed twice"),
        pytest.param(TEXT + line_of("a", 68) * 2, Refusal.DUPLICATE_SIGNATURE, id="stranger signed twice"),
        pytest.param(
            TEXT + "".join(line_of(f"k{number}", 68) for number in range(MAX_SIGNATURES - 1)),
            Refusal.TOO_MANY_SIGNATURES,
            id="too many signatures",
        ),
        pytest.param(f"{NOTE}\n{line_of('a', 68)}", Refusal.UNKNOWN_KEYS, id="stranger alone"),
        pytest.param(TEXT.replace("\n5\n", "\n6\n"), Refusal.BAD_SIGNATURE, id="size changed"),
        pytest.param(TEXT.replace(ROOT_LINE, b64encode(EMPTY_ROOT).decode()), Refusal.BAD_SIGNATURE, id="root"),
        pytest.param(TEXT.replace("ZdwU=", "ZdwA="), Refusal.BAD_SIGNATURE, id="signature"),
    ],
)
def test_a_text_that_is_not_exactly_a_checkpoint_is_refused_by_its_reason(text, reason):
    assert refused(text) is reason


def test_a_bad_signature_of_one_known_key_is_not_outweighed_by_another():
    other, _ = cosigned(NOTE, 5, bytes(32))
    forged = WITNESS_LINE[:-9] + ("B" if WITNESS_LINE[-9] != "B" else "C") + WITNESS_LINE[-8:]
    assert refused(f"{NOTE}\n{LOG_LINE}{forged}") is Refusal.BAD_SIGNATURE
    assert open_checkpoint(f"{NOTE}\n{LOG_LINE}{other}", [LOG, WITNESS]).cosignatures == ()


def test_a_cosignature_vouches_for_the_time_it_states():
    line, vkey = cosigned(NOTE, 1795521601, bytes(32))
    assert open_checkpoint(f"{NOTE}\n{line}", [vkey]).cosignatures == (
        Cosignature("witness.example.com/w1", 1795521601),
    )
    name, blob = line.split()[1], bytearray(b64decode(line.split()[2]))
    blob[11] ^= 1
    moved = f"\u2014 {name} {b64encode(blob).decode()}\n"
    assert refused(f"{NOTE}\n{moved}", [vkey]) is Refusal.BAD_SIGNATURE


def test_a_cosignature_later_than_any_time_or_of_another_length_is_refused():
    late, vkey = cosigned(NOTE, 2**63, bytes(32))
    assert refused(f"{NOTE}\n{late}", [vkey]) is Refusal.BAD_SIGNATURE
    short = b64encode(b64decode(late.split()[2])[:-1]).decode()
    assert refused(f"{NOTE}\n\u2014 witness.example.com/w1 {short}\n", [vkey]) is Refusal.BAD_SIGNATURE


def test_sixteen_large_signatures_are_still_read():
    many = "".join(line_of(f"pq{number}.example.com", 5000) for number in range(15))
    assert open_checkpoint(TEXT + many, [LOG]).size == 5


def test_without_a_given_origin_the_signed_one_is_reported():
    other = LogSigner.from_seed("other.example.com", bytes(32))
    text = sign_checkpoint("other.example.com", 5, ROOT, other)
    assert open_checkpoint(text, [str(other.verifier)]).origin == "other.example.com"


@pytest.mark.parametrize(
    "vkey",
    [
        LOG,
        WITNESS,
        # Published elsewhere: the Go checksum database, and the example of Go's note package.
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_published_vkey_reads_back_as_itself(vkey):
    assert str(parse_vkey(vkey)) == vkey


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        ORIGIN,
        LOG.replace("ea29c32d", "ea29c32e"),
        LOG.replace("ea29c32d", "EA29C32D"),
        LOG.replace("ea29c32d", "ea29c3"),
        LOG.replace(ORIGIN, ORIGIN + "x"),
        LOG.replace(ORIGIN, ORIGIN + " "),
        LOG.replace(ORIGIN, ""),
        LOG.replace("+AQOh", "+AgOh"),
        LOG[:-4],
        LOG + "\n",
        LOG[:-1] + "=",
    ],
)
def test_a_malformed_vkey_is_an_error_of_configuration(vkey):
    with pytest.raises(ValueError, match=r"vkey|public"):
        open_checkpoint(TEXT, [vkey])


def test_a_signer_publishes_its_vkey_and_hides_its_key():
    assert str(SIGNER.verifier) == LOG
    assert repr(SIGNER) == f"LogSigner(name='{ORIGIN}')"
    assert SEED.hex() not in repr(SIGNER)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u2003b"])
def test_a_signer_needs_a_name_that_a_note_can_carry(name):
    with pytest.raises(ValueError, match="name"):
        LogSigner.from_seed(name, SEED)
    with pytest.raises(ValueError, match="name"):
        VerifierKey(name, SignatureType.ED25519, bytes(32))


def test_a_seed_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32"):
        LogSigner.from_seed(ORIGIN, SEED[:-1])


PROOF = VECTORS["tlog_proof"]


def proof_refused(text, leaf=LEAVES[2], vkeys=(LOG,), origin=ORIGIN):
    with pytest.raises(ProofRefusedError) as error:
        open_proof(text, leaf=leaf, vkeys=vkeys, origin=origin)
    return error.value.reason


def test_the_published_proof_is_made_and_opens():
    assert make_proof(index=2, path=inclusion_proof(LEAVES, 2), checkpoint=TEXT) == PROOF
    opened = open_proof(PROOF, leaf=LEAVES[2], vkeys=[LOG, WITNESS], origin=ORIGIN)
    assert opened == Proof(2, open_checkpoint(TEXT, [LOG, WITNESS]))


def test_every_record_of_the_published_log_can_be_proven_by_text():
    for index, leaf in enumerate(LEAVES):
        text = make_proof(index=index, path=inclusion_proof(LEAVES, index), checkpoint=TEXT)
        assert open_proof(text, leaf=leaf, vkeys=[LOG]).index == index
        for other in LEAVES[:index] + LEAVES[index + 1 :]:
            assert proof_refused(text, leaf=other) is ProofRefusal.NOT_INCLUDED


def test_the_only_record_of_a_log_is_proven_by_an_empty_path():
    checkpoint = sign_checkpoint(ORIGIN, 1, LEAVES[0], SIGNER)
    text = make_proof(index=0, path=[], checkpoint=checkpoint, extra=b"context")
    opened = open_proof(text, leaf=LEAVES[0], vkeys=[LOG], origin=ORIGIN)
    assert (opened.index, opened.extra) == (0, b"context")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", ProofRefusal.WRONG_HEADER, id="nothing"),
        pytest.param("x" * 600_000, ProofRefusal.TOO_LONG, id="too long"),
        pytest.param(PROOF.replace("@v1", "@v2"), ProofRefusal.WRONG_HEADER, id="another version"),
        pytest.param(PROOF.replace("\n", "\r\n"), ProofRefusal.WRONG_HEADER, id="CRLF"),
        pytest.param(PROOF.replace("\n\n", "\n"), ProofRefusal.NO_BLANK_LINE, id="no blank line"),
        pytest.param(PROOF.replace("index", "extra AAAB=\nindex"), ProofRefusal.BAD_EXTRA, id="loose extra"),
        pytest.param(PROOF.replace("index", "extra \nindex"), ProofRefusal.BAD_EXTRA, id="empty extra"),
        pytest.param(PROOF.replace("index 2\n", ""), ProofRefusal.BAD_INDEX, id="no index"),
        pytest.param(PROOF.replace("index 2", "index 02"), ProofRefusal.BAD_INDEX, id="leading zero"),
        pytest.param(PROOF.replace("index 2", "index -2"), ProofRefusal.BAD_INDEX, id="negative index"),
        pytest.param(PROOF.replace("index 2", "index  2"), ProofRefusal.BAD_INDEX, id="two spaces"),
        pytest.param("c2sp.org/tlog-proof@v1\n\n" + TEXT, ProofRefusal.BAD_INDEX, id="header alone"),
        pytest.param(PROOF.replace("wbU=", "wbV="), ProofRefusal.BAD_HASH, id="loose hash"),
        pytest.param(PROOF.replace("index 2", "index 2\nAAAA"), ProofRefusal.BAD_HASH, id="short hash"),
        pytest.param(
            PROOF.replace("index 2", "index 2" + f"\n{ROOT_LINE}" * 64),
            ProofRefusal.BAD_HASH,
            id="path too long",
        ),
        pytest.param(PROOF.replace("index 2", "index 5"), ProofRefusal.INDEX_BEYOND_SIZE, id="index is size"),
        pytest.param(PROOF.replace("index 2", "index 3"), ProofRefusal.NOT_INCLUDED, id="another index"),
        pytest.param(PROOF.replace("index 2", f"index 2\n{ROOT_LINE}"), ProofRefusal.NOT_INCLUDED, id="extra hash"),
        pytest.param(
            PROOF.replace("M7DNI2PPSd6CNJ0BvA8Xo6OK5/FD2aemnMi2kGgBr+M=\n", ""),
            ProofRefusal.NOT_INCLUDED,
            id="hash missing",
        ),
        pytest.param(PROOF.replace("\n5\n", "\n6\n"), ProofRefusal.BAD_CHECKPOINT, id="checkpoint changed"),
        pytest.param(PROOF[:-1], ProofRefusal.BAD_CHECKPOINT, id="checkpoint cut"),
    ],
)
def test_a_text_that_is_not_exactly_a_proof_is_refused_by_its_reason(text, reason):
    assert proof_refused(text) is reason


def test_a_proof_of_swapped_sides_is_refused():
    path = inclusion_proof(LEAVES, 2)
    swapped = make_proof(index=2, path=[path[1], path[0], path[2]], checkpoint=TEXT)
    assert proof_refused(swapped) is ProofRefusal.NOT_INCLUDED


def test_a_proof_in_an_empty_log_is_refused():
    empty = sign_checkpoint(ORIGIN, 0, EMPTY_ROOT, SIGNER)
    text = make_proof(index=0, path=[], checkpoint=empty)
    assert proof_refused(text, leaf=LEAVES[0]) is ProofRefusal.INDEX_BEYOND_SIZE


def test_a_proof_from_another_log_or_by_an_unknown_key_is_refused():
    assert proof_refused(PROOF, origin="other.example.com") is ProofRefusal.BAD_CHECKPOINT
    assert proof_refused(PROOF, vkeys=[str(STRANGER.verifier)]) is ProofRefusal.BAD_CHECKPOINT


@pytest.mark.parametrize(("index", "path"), [(-1, []), (0, [b"short"]), (0, [ROOT] * 64)])
def test_an_impossible_proof_is_not_made(index, path):
    with pytest.raises(ValueError, match=r"index|path"):
        make_proof(index=index, path=path, checkpoint=TEXT)
