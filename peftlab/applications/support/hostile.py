"""Texts that speak to the model instead of to people.

A list of patterns finds what is usual, and nothing more: what it does not know is held by the other walls. A written
answer is made of sentences that the entries support (:mod:`peftlab.applications.support.checking`), control tokens in
texts are never control tokens for the model (:mod:`peftlab.tasks.language.user_text`), and pages show texts as texts.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

_NOT = r"(?:ignore|disregard|forget|overlook|bypass|override|skip|neglect|do not follow|don't follow|stop following)"
_RULES = (
    r"(?:instructions?|rules?|prompts?|guidelines?|directives?|commands?|orders?|polic(?:y|ies)|context|restrictions?)"
)
_WHICH = r"(?:previous|prior|above|earlier|preceding|foregoing|all|any|your|these|those|system|everything)"
ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_NOT}\b.{{0,40}}\b{_WHICH}\b.{{0,40}}\b{_RULES}\b",
        rf"\b{_NOT}\b.{{0,30}}\b(?:everything|all|anything)\b.{{0,30}}\b(?:above|before|said|told|so far)\b",
        rf"\b(?:new|updated|real|actual|secret|hidden)\s+(?:system\s+)?{_RULES}\s*:",
        r"\b(?:you are|you're)\s+(?:now|no longer|from now on)\b",
        r"\bfrom now on\b.{0,20}\b(?:you|act|answer|respond|speak)\b",
        r"\b(?:act|behave|respond|speak|answer)\s+(?:as|like)\s+(?:if|an?|the|my)\b.{0,40}\b(?:ai|assistant|model|bot|"
        r"admin|administrator|developer|system|root|hacker|pirate|persona|character|dan|unrestricted|"
        r"you (?:are|were|have))\b",
        r"\b(?:pretend|roleplay|role-play|imagine)\b.{0,30}\b(?:you|to be|that)\b",
        r"\b(?:reveal|print|show|repeat|output|leak|tell me|display|disclose|give me|translate|summari[sz]e|"
        r"encode)\b.{0,40}"
        r"\b(?:system|hidden|initial|secret|original|your)\s+(?:system\s+)?(?:prompt|instructions?|message|"
        r"rules|context)\b",
        r"\b(?:say|print|output|write|reply|respond|answer|repeat|return|state|echo)\b.{0,25}"
        r"\b(?:only|exactly|verbatim|nothing but|(?:with )?the (?:word|words|phrase|text|string)s?)\b",
        r"\b(?:begin|start|end|finish|prefix)\b.{0,20}\b(?:your|every|each|the)\s+(?:answer|response|reply|"
        r"message|output)\b",
        r"\b(?:do not|don't|never)\s+(?:tell|mention|inform|warn|reveal (?:this )?to)\s+(?:it\s+)?(?:to\s+)?(?:the\s+)?"
        r"(?:user|customer|anyone|anybody|people|human|agent)s?\b",
        r"\b(?:assistant|chatbot|language model|llm)\b\s*[,:]\s*\w+|\b(?-i:AI|GPT)\s*[,:]\s*\w+",
        r"\b(?:tell|instruct|ask|direct|convince|urge)\s+(?:the\s+|every\s+|all\s+)?(?:user|customer|reader|"
        r"human)s?\b.{0,20}\bto\b",
        r"\b(?:developer|debug|god|jailbreak|admin|maintenance|sudo|dan)\s*(?:mode|override|access)\b",
        r"\bjailbr(?:ea|o)k",
        r"\bas an? (?:ai|language model|large language model)\b",
        r"\b(?:note|message|instructions?|attention|dear)\b.{0,12}\b(?:assistant|chatbot|language model|llm|ai)\b",
        r"\b(?:answer|respond|reply|speak|write)\s+in\s+the\s+(?:voice|style|manner|role|tone)\s+of\b",
        r"\b(?:each|every|all|any)\s+(?:of your\s+)?(?:answer|response|repl(?:y|ie))s?\b.{0,30}"
        r"\b(?:by|with)\b.{0,15}\b(?:writing|saying|printing|adding|appending|the words?)\b",
        r"\b(?:write|say|print|put|add|insert|append)\b.{0,30}\b(?:before|after|at the (?:end|beginning|start) of)\b"
        r".{0,10}"
        r"\b(?:each|every|all|your)\s+(?:of your\s+)?(?:sentence|answer|response|repl(?:y|ie)|line|word)s?\b",
        r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|developer|tool)[\"']",
        r"\[(?:system|assistant|developer)\]\s*\(",
        r"\bend of (?:notes|context|document|passage|instructions?|prompt)\b",
        # Only the last of several ends of lines begins a search: a text of nothing else would be searched for long.
        r"(?:^|[\n.!?])[^\S\n]*+(?:#++[^\S\n]*+)?(?:system|assistant|developer|instructions?)\s*[:>\]]",
        r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\|?/?(?:system|assistant|user|tool_call)\|?>",
        r"<\s*/?\s*(?:script|iframe|img|svg|object|embed|link|style|meta|base|form|body|video|audio|math|template)\b",
        r"\b(?:javascript|vbscript)\s*:\s*\S|\bdata\s*:\s*[^\s/]*+/[^\s;]*+;|\bon(?:error|load|click|focus|mouseover|"
        r"toggle|start)\s*=",
        r"!\[[^\]]*\]\([^)]*\)",
        r"\{\{.*?\}\}|\{%.*?%\}|\$\{.*?\}",
        # The same orders in other languages.
        r"\b(?:ignorier|vergiss|missachte)\w*\b.{0,50}\b(?:anweisung|regel|befehl|vorgab|instruktion)\w*",
        r"\b(?:ignore[zr]?|oublie[zr]?|oubli[eé]\w*)\b.{0,50}\b(?:instructions?|consignes?|r[eè]gles?)\b",
        r"\b(?:ignora\w*|olvida\w*|dimentica\w*|esque[cç]\w*)\b.{0,50}\b(?:instruc\w+|reglas?|istruzion\w+|"
        r"regole|instru[cç]\w+|regras)\b",
        r"\b(?:z?ignoruj|zapomnij|pomi[nń])\w*\b.{0,50}\b(?:instrukcj|polece|zasad|regu[lł])\w*",
        r"(?:игнорир|забудь|не обращай)\w*.{0,50}(?:инструкц|правил|указани)\w*",
        r"(?:忽略|无视|忘记|不要遵守).{0,20}(?:指令|指示|规则|提示|说明)",
        r"(?:無視|忘れ).{0,20}|(?:指示|命令|ルール).{0,10}(?:無視|忘れ)",
        r"(?:تجاهل|انس).{0,40}(?:التعليمات|الأوامر|القواعد)",
    )
)  # fmt: skip
_BLANKS = re.compile(r"\s+")
_ENCODED = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
_LOOKALIKES = str.maketrans("аеорсухіјѕԁɡ０１３４５７@$", "aeopcyxijsdgoieast" + "as")
_DIGITS = str.maketrans("013457", "oieast")


def gives_orders(text: str) -> bool:
    """Whether a text holds something that speaks to a model, or that a page could run."""
    return any(pattern.search(form) for form in _forms(text) for pattern in ORDERS)


def harmless(text: str) -> str:
    """The text; nothing of it where it gives orders to a model: they may go on in the next sentence."""
    return "" if gives_orders(text) else text


def _forms(text: str) -> list[str]:
    """A text as it stands, without what hides letters, on one line, and with what is encoded in it.

    Of blanks that follow each other one is left: twenty thousand line feeds would take the patterns minutes.
    """
    text = _BLANKS.sub(lambda found: "\n" if "\n" in found.group() else " ", text)
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(sign for sign in plain if unicodedata.category(sign) not in ("Cf", "Mn", "Co"))
    forms = [text, plain, plain.replace("\n", " "), plain.casefold().translate(_LOOKALIKES), plain.translate(_DIGITS)]
    forms.append(re.sub(r"(?<=\b\w)[ .\-_*](?=\w\b)", "", plain))
    for found in _ENCODED.findall(plain):
        try:
            forms.append(base64.b64decode(found + "=" * (-len(found) % 4), validate=True).decode("utf-8"))
        except (binascii.Error, UnicodeDecodeError):
            continue
    return forms
