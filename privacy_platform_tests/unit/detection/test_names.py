"""The name path: whole words in many languages and spellings, and what takes them back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_platform.detection.names import name_evidence, words_of
from privacy_platform.detection.types import PiiType as T

SAID = {
    T.EMAIL: "email E-Mail emailAddress EMAIL_ADDR user_email correo_electronico メールアドレス 邮箱 adresse_mail",
    T.PHONE: "phone Phone_Number telNr tel_nr mobile home_phone telefono TELEFONNUMMER 电话 電話番号 телефон fax1",
    T.PERSON_NAME: "first_name LastName surname FNAME Vorname nachname apellidos prenom cognome 姓名 氏名 фамилия "
    "custFirstNm contact_name MothersMaiden MiddleInitial nazwisko soyad",
    T.DATE_OF_BIRTH: "dob BirthDate dateofbirth date_of_birth Geburtsdatum fecha_de_nacimiento 生年月日 birth_year",
    T.STREET_ADDRESS: "address Street_Address addressLine1 ADDRESS_LINE_2 strasse endereco 地址 ship_address",
    T.POSTAL_CODE: "zip ZipCode postal_code PLZ code_postal 邮编 billing_zip",
    T.GENDER: "gender Sex SEXO geschlecht 性别 пол",
    T.NATIONAL_ID: "ssn NationalIDNumber cpf dni codice_fiscale pesel bsn 身份证号 ssn_last4",
    T.USER_ID: "user_id customerId PatientId member_no kundennr StudentNumber EmpID",
    T.CREDENTIAL: "password PasswordHash pwd api_key passwort 密码",
    T.CREDIT_CARD: "credit_card CCNumber card_number CVV2",
    T.IP_ADDRESS: "ip_address clientIp remote_addr",
    T.MARITAL_STATUS: "marital_status MaritalStatus familienstand estado_civil 婚姻状况",
    T.RELIGION: "religion Konfession 宗教",
    T.HEALTH: "diagnosis blood_type smoking_status diagnostico 血型",
    T.FINANCE: "salary annual_income gehalt 工资",
    T.USERNAME: "username LoginID login_name benutzername 用户名",
}
UNSAID = (
    "scenario_code zip_file email_verified description phone_type curriculum percentage usage package manage average "
    "is_email has_phone num_customers address_count name_length product_name company_name file_name host status "
    "mortgage image panel vinyl language sextant password_reset_at card_type ip_version passage coverage"
)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SAID.items() for name in names.split()])
def test_a_name_says_its_type(kind: T, name: str) -> None:
    types = name_evidence(name).types

    assert types.get(kind, 0) == max(types.values()) > 0.5


@pytest.mark.parametrize("name", UNSAID.split())
def test_a_name_that_only_looks_like_one_says_nothing(name: str) -> None:
    assert max(name_evidence(name).types.values(), default=0) < 0.4


def test_what_was_checked_or_counted_is_told_from_the_value() -> None:
    assert name_evidence("email_verified").negated
    assert name_evidence("is_phone").negated
    assert not name_evidence("email").negated


def test_a_bare_name_is_left_to_the_table() -> None:
    evidence = name_evidence("Name")

    assert evidence.generic == {"name"}
    assert not evidence.types


def test_somebody_and_something() -> None:
    assert name_evidence("customer").person
    assert name_evidence("product").thing
    assert name_evidence("composer").public
    assert name_evidence("species").animal
    assert name_evidence("billing_city").own
    assert name_evidence("BusinessEntityID").key


@pytest.mark.parametrize("name", ["c7", "col_12", "Unnamed: 3", "Column1", "V2", "attr5"])
def test_a_placeholder_says_nothing(name: str) -> None:
    assert name_evidence(name).meaningless


def test_a_question_is_put_to_a_person() -> None:
    evidence = name_evidence("What is your gender?")

    assert evidence.types == {T.GENDER: 1.0}
    assert evidence.person


def test_words_written_together_are_cut_only_into_known_words() -> None:
    assert words_of("phonenumberhome") == ("phonenumber", "home")
    assert words_of("phonescopy") == ("phonescopy",)


@given(st.text(max_size=60))
def test_any_text_is_a_name(name: str) -> None:
    assert all(0 < strength <= 1 for strength in name_evidence(name).types.values())


@given(st.sampled_from(["email", "phone", "ssn", "gender"]), st.text("bcdfghjklmnpqrstvwxz", min_size=4, max_size=8))
def test_never_a_part_of_a_word(word: str, rest: str) -> None:
    assert not name_evidence(word + rest).types or rest in words_of(word + rest)
